"""Charts as Altair specifications: one source for the page's static drawings and for figures of papers.

A page needs no chart library: `theme.drawing` renders a specification to SVG when the page is made, with the page's own
colours, and ``static/charts.js`` reads values out of the drawing's labels.
"""
