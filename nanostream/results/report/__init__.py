"""Report of a session: one HTML file that needs nothing beside it.

::

    content     Session                -> `Content`: tables, numbers, texts
    charts      Content                -> drawings (SVG) by matplotlib
    page        Content, pictures      -> the HTML page, by the template page.html.jinja

Whoever calls brings the pictures, since micrographs may have been moved.
"""
