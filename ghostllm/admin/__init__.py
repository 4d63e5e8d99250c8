"""The admin API: what a running gateway does and has done, for those who run it, and the few things that they
can have it do. It knows the gateway through `ports.Operations` and `ports.History` only.

Who may use it is told by roles (admin, operator, viewer, or own ones); without configured keys it is whoever
asks from this machine itself.
"""
