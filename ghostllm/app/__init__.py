"""The composition root: a configuration becomes a running gateway. The only package that knows every layer.

`process` is the gateway's life from start to end, `fleet_life` that of its backends, `operations` what
operators see and do, `gauges` what of it is measured.
"""
