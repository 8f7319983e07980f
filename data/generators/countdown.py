def pose(n,t): return str(n),str(t)
