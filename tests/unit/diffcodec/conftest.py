"""Property tests state facts, not speed: no deadlines on a busy machine."""

from hypothesis import settings

settings.register_profile("no deadlines", deadline=None)
settings.load_profile("no deadlines")
