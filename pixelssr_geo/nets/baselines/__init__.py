"""Networks of other papers, written from their descriptions, to compare with."""
