"""Pictures, a module each: small SVG that is drawn once, for pages and for papers alike.

`drawing` has what all of them share; colours are the style sheet's variables, and ``static/charts.css`` says how parts look.
`paper` writes the same drawings as files, with the light scheme's colours in them.
"""
