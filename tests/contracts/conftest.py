from tests.services import database_url, postgres, s3

__all__ = ["database_url", "postgres", "s3"]
