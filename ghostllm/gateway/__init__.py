"""The request path. Read it in this order:

`gateway` opens an exchange (route, identity) -> `generate` reads the call, asks routing for targets and makes
attempts -> each attempt's answer runs through a `relay` to the client. `listing` and `operate` answer the
other routes.
"""
