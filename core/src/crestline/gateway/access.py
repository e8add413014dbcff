"""Creates authentication and authorization from the configuration."""

from __future__ import annotations

from crestline.gateway.authorization import Authorization
from crestline.gateway.authorization.openfga import OpenFga
from crestline.gateway.config import GatewayConfig, OidcConfig
from crestline.gateway.identity.api_keys import ApiKeys
from crestline.gateway.identity.authentication import Authenticator
from crestline.gateway.identity.issuer import Issuer
from crestline.gateway.identity.keys import KeySource, OwnKeys
from crestline.gateway.identity.oidc import ProviderKeys
from crestline.gateway.identity.tokens import TokenVerifier, TrustedIssuer
from crestline.gateway.identity.users import SYSTEM_ACCOUNTS, KeyUsers, UserPolicy
from crestline.gateway.store import Store
from crestline.plain_http import check_url
from crestline.wire.extensions import SCOPES


def build_authenticator(
    config: GatewayConfig, issuer: Issuer, keys: ApiKeys, before: Authenticator | None = None
) -> Authenticator:
    """Create the authenticator for tokens of the built-in issuer and of the configured providers, and for API keys.

    Args:
        config: the configuration.
        before: the authenticator that it replaces, whose cached keys of providers are kept.

    Raises:
        ConfigError: the keys of a provider would travel over plain HTTP from another machine.
    """
    known = before.tokens.key_sources if before else {}
    own = TrustedIssuer(
        name=issuer.name,
        audience=issuer.audience,
        keys=OwnKeys(issuer.key),
        scopes={},
        check=issuer.active_clients.check,
    )
    for each in config.oidc:
        check_url(each.issuer)  # its keys come from there, and with another key an attacker could sign for every user
    providers = [
        TrustedIssuer(
            name=each.issuer,
            audience=each.audience,
            keys=_provider_keys(each, known.get(each.issuer)),
            username_claim=each.username_claim,
            groups_claim=each.groups_claim,
            users=_users(each),
            scopes=_scopes(each),
        )
        for each in config.oidc
    ]
    policies = {each.name: each.users for each in providers if each.users is not None}
    users = KeyUsers(policies, issuer.name, issuer.active_clients.made)
    return Authenticator(TokenVerifier([own, *providers], min_ttl=config.min_token_ttl), keys, users)


def build_authorization(config: GatewayConfig) -> Authorization:
    """Create the authorization by the systems' rules and OpenFGA.

    Raises:
        ConfigError: invalid settings of OpenFGA.
    """
    rules = {name: system.access for name, system in config.systems.items()}
    return Authorization(rules, OpenFga(config.openfga) if config.openfga else None)


def build_api_keys(config: GatewayConfig, store: Store) -> ApiKeys:
    """Return the API keys of the store."""
    return ApiKeys(store, lifetime=config.api_keys.lifetime, max_lifetime=config.api_keys.max_lifetime)


def _users(provider: OidcConfig) -> UserPolicy:
    denied = SYSTEM_ACCOUNTS if provider.denied_users is None else provider.denied_users
    return UserPolicy(min_uid=provider.min_uid, allowed=provider.allowed_users, denied=denied)


def _provider_keys(provider: OidcConfig, known: KeySource | None) -> KeySource:
    if isinstance(known, ProviderKeys) and known.ca_file == provider.ca_file:
        return known
    return ProviderKeys(provider.issuer, ca_file=provider.ca_file)


def _scopes(provider: OidcConfig) -> dict[str, frozenset[str]] | None:
    if provider.scopes is None:
        return None
    return {name: SCOPES if "*" in ours else frozenset(ours) for name, ours in provider.scopes.items()}
