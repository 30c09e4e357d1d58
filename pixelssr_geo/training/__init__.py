"""Training networks on sparse labels."""
