"""From one stack's resolved storage to the bytes of its ConfigMap and Secret. Pure."""
