"""The usual stack: FastAPI, pydantic, SQLAlchemy's ORM, two workers."""
