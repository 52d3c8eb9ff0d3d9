"""The dashboard as text: a snapshot in, renderables and lines out."""
