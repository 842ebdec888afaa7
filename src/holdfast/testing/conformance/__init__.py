"""One suite for each seam, to be run over every implementation of it: subclass it, say how to make yours, and let
pytest collect it. The assertions explain themselves best after
`pytest.register_assert_rewrite("holdfast.testing.conformance")`.
"""
