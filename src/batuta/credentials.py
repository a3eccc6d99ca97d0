"""Credentials in addresses and in the environment: what has any, and a text without them."""

import re
from typing import Final

STORE_VARIABLES: Final = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AZURE_CLIENT_SECRET",
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_CLIENT_SECRET",
        "AZURE_STORAGE_SAS_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_TOKEN",
        "GOOGLE_SERVICE_ACCOUNT_KEY",
    }
)
"""Environment variables that hold the credentials of a bucket."""


def has_credentials(text: str) -> bool:
    """Return whether a text has an address with credentials in it."""
    return without_password(text) != text


def without_password(text: str) -> str:
    """Return a text in which no URL has credentials, fit for logs and messages.

    A password may hold any character, as people write it; none but whitespace ends a URL.
    """
    return _PARAMETER.sub(r"\1***", _CREDENTIALS.sub("//", text))


_CREDENTIALS: Final = re.compile(r"//(?:(?!,\w+://)\S)*@")
_PARAMETER: Final = re.compile(
    r"([?&](?:password|sslpassword|passwd|token|secret)=)(?!\*\*\*)[^&\s]+", re.IGNORECASE
)
"""As libpq takes a password, too: ``postgresql://host/name?password=...``."""
