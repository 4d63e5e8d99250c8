"""The fakes against the real clients, and real clients against the gateway: whoever speaks is not ours."""
