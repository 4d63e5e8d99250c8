"""The front-door dialects and the forms between them. Pure: bytes and values in, bytes and values out.

door: a dialect that clients speak to the gateway (`openai` …); `ports.Door` says what one must be able to do.
pass-through: the backend speaks the door's dialect, so bytes go through as they are (`passthrough`,
`splice`). neutral form: what two dialects share (`canonical`), for when they do not. rescue: another backend
goes on with a stream that broke (`rescue`), where the answer kept what it told (`told`, and `kept` of each
dialect).
"""
