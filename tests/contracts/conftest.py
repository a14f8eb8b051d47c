from tests.services import database_url, postgres, s3, s3_server

__all__ = ["database_url", "postgres", "s3", "s3_server"]
