"""What a run found: results.jsonl, summary.json, a table and one self-contained report.html.

    rows       one measurement: seed x generation x variant
    summary    mean and range over seeds, and what the run shows (pure)
    table      for a terminal
    plots      accuracy and bytes by generation, as SVG
    page       report.html, and `write_report`, which writes all of it

results.jsonl and summary.json are the record; the rest can be made from them again.
"""
