"""The admin API: what a running gateway does and has done, for those who run it, and the few things that they
can have it do. It knows the gateway through `ports.Operations` and `ports.History` only.

A *key that may manage* (`manage = true`) may use it; without configured keys whoever can reach the gateway
may, which is this machine.
"""
