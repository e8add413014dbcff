"""Proving who we are to a gateway: one class for each way of getting a token."""

from crestline.client.auth.api_key import ApiKey
from crestline.client.auth.base import Authorizer
from crestline.client.auth.client_credentials import ClientCredentials
from crestline.client.auth.refresh_token import RefreshToken, RefreshTokenStore, TokenFile
from crestline.client.auth.static_token import StaticToken
from crestline.client.auth.token_command import TokenCommand

__all__ = [
    "ApiKey",
    "Authorizer",
    "ClientCredentials",
    "RefreshToken",
    "RefreshTokenStore",
    "StaticToken",
    "TokenCommand",
    "TokenFile",
]
