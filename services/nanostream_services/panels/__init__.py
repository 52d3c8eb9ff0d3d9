"""The dashboard's panels: snapshots in, pictures or lines out; nothing here waits or reads."""
