"""JupyterHub spawner on FirecREST v2."""
