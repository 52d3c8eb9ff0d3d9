"""What the dashboard shows: snapshots in, panels or lines out; nothing here waits or reads."""
