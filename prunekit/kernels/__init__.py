"""The same maths as one fused pass: on the CPU by numba, on a GPU by Triton; `dispatch` gives the fastest."""
