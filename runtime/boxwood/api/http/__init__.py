"""A small, strict HTTP/1.1 server: llhttp (httptools) under an asyncio Protocol.

Made for what the Engine API needs and common servers do not do: a socket that can be let go of
(attach, exec), a client that shuts its writing side and still reads, a response written while
the request body still arrives, request bodies of many gigabytes in bounded memory.
"""
