from tests.services import postgres, s3, s3_server

__all__ = ["postgres", "s3", "s3_server"]
