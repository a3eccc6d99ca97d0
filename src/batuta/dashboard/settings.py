"""The configuration of the dashboard."""

from pydantic import Field

from batuta.service.settings import ServiceSettings


class DashboardSettings(ServiceSettings):
    """Settings of the dashboard; each field has its description."""

    port: int = Field(8000, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    conductor_url: str = Field("http://127.0.0.1:8002", description="Where the conductor is.")
    sdb_url: str = Field("http://127.0.0.1:8001", description="Where the sdb is.")
