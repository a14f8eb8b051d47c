"""What a run found: results.jsonl, summary.json, tables and one self-contained report.html.

    rows         one measurement: seed x generation x line
    facts        where the numbers come from
    summary      mean and range over seeds
    findings     what the run shows, against its targets
    curves       score against bytes, and the best method of each size
    paper_table  Table 1 of the paper, from the lines that it has
    report       all of these together
    table, plots, page    for a terminal; as SVG; report.html and `write_report`, which writes all

Everything above the last line is pure. results.jsonl and the facts in summary.json are the record;
the rest can be made from them again.
"""
