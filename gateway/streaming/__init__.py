"""Server-streaming methods as server-sent events (WHATWG HTML, section 9.2)."""
