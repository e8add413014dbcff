"""The endpoints, grouped as FirecREST groups them; `oauth` serves the built-in issuer."""
