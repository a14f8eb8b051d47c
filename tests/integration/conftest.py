from tests.services import postgres, s3

__all__ = ["postgres", "s3"]
