"""The web target: static files that segment CT scans in a browser, offline after the first visit.

``site/`` holds our own files, which an export copies: the ES module ``autosam-edge.mjs`` with its types, the
worker behind it, the page and the service worker. Everything of others is fetched by its SHA-256.
"""
