"""The page that an operator looks at: the overview in a browser, read-only.

    serving    start and stop it beside the gRPC server
    site       what is answered to which request
    guard      who may ask, and what a browser may do with the answer
    snapshots  one look at the registry for any number of viewers
    rendering  an overview as HTML
    paging     parts of lists

    >>> async with serving_page(home, "127.0.0.1:8080") as url: ...

Plain HTTP without a login: it listens on loopback unless told otherwise. Nothing here can change
anything. Not for: figures of its own; all of them come from server.overview.
"""
