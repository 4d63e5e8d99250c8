"""`/openapi.json`: the API as an OpenAPI 3.1 document, built from the route table and a description of each
of its routes.

A *template* is a path with `{names}` in it; below one prefix of the route table there may be several. What is
described and not in the table is left out, and what is in the table must be described: a test holds that. The
compatible doors are described by their essential members; others are allowed wherever their makers' are.
"""
