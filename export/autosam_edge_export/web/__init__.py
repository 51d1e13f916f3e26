"""The web target: static files that segment CT scans in a browser, offline after the first visit.

``site/`` holds our own files, which an export copies: the ES module ``autosam-edge.mjs`` with its types, the
worker behind it, the page and the service worker. Everything of others is fetched by its SHA-256.
The page loads its viewer from ``vendor/viewer/niivue.umd.js``: ``dist/niivue.umd.js`` of npm's @niivue/niivue
0.69.0 (BSD-2-Clause), a whole bundle that sets ``globalThis.niivue``, so that an export needs no bundler.
"""
