"""The report of `snakemake report`: plain pages that open from disk, from each number down to the answers.

`pages` writes them, with `galleries`, `means` and `plain` for their kinds; `tables`, `answers`, `images` and
`record` say what stands on them; `places` says where each page is; `templates/` and `style.css` say how it
looks.
"""
