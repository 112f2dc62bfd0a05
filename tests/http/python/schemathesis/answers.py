"""Checks of every answer that schemathesis gets, besides those of its own."""

import unicodedata

import schemathesis


@schemathesis.check
def no_defect(ctx, response, case):
    """An error that passes says so, and no other has a status of the server."""
    if response.status_code < 500:
        return
    headers = response.headers
    assert response.status_code in (503, 504), "the server failed"
    tells = "retry-after" in headers or headers.get("x-should-retry") == ["false"]
    assert tells, "the client is not told whether to send it again"
    if response.status_code == 504:
        assert "timeout" in (case.body or {}), "no time limit was given"


@schemathesis.check
def an_error_object(ctx, response, case):
    """Every error, on any route, has the object of OpenAI's API and the request's id."""
    assert response.headers.get("x-request-id"), "the answer has no id"
    if response.status_code >= 400 and case.method != "HEAD":
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"] and error["code"]
        controls = [c for c in error["message"] if unicodedata.category(c) == "Cc"]
        assert not controls, "the message has control characters"
