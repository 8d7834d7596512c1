"""Open models of any origin, and save compressed ones so that others can open them."""
