"""The endpoints in FirecREST's groups; `oauth` serves the built-in issuer."""
