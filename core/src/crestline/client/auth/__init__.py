"""Credentials for a gateway: one class for each kind of credentials."""

from crestline.client.auth.api_key import ApiKey
from crestline.client.auth.base import Authorizer, BearerAuthorizer
from crestline.client.auth.client_credentials import ClientCredentials
from crestline.client.auth.refresh_token import RefreshToken, RefreshTokenStore, TokenFile
from crestline.client.auth.static_token import StaticToken
from crestline.client.auth.token import Token, TokenSource, make_token
from crestline.client.auth.token_command import TokenCommand
from crestline.client.auth.token_endpoint import request_token

__all__ = [
    "ApiKey",
    "Authorizer",
    "BearerAuthorizer",
    "ClientCredentials",
    "RefreshToken",
    "RefreshTokenStore",
    "StaticToken",
    "Token",
    "TokenCommand",
    "TokenFile",
    "TokenSource",
    "make_token",
    "request_token",
]
