"""ReFrame scheduler backend on FirecREST v2."""
