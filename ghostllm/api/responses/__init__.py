"""OpenAI's Responses dialect, as a door: a conversation is a row of *items* (messages, reasoning, tool calls
and their outputs), and an answer is a *response* whose output items can be the next request's input.

`request_reader` (with `items` and `tools`) reads requests, `answer_writer` (with `in_order`, `output` and
`response_body`) writes answers, `stored` has what may be asked of a response later. What keeps responses is
`state.responses`.
"""
