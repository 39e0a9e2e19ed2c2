import CCbc

/// Minimise a sum over columns under rows of sums, by the simplex of Clp or, where columns are whole numbers, by the
/// branch-and-cut of Cbc (COIN-OR). One thread and no clock: the same program gives the same answer.
struct LinearProgram {
    private var objective: [Double] = []
    private var lower: [Double] = []
    private var upper: [Double] = []
    private var isWhole: [Bool] = []
    private var rowLower: [Double] = []
    private var rowUpper: [Double] = []
    /// Entries of each column.
    private var entries: [[(row: Int32, value: Double)]] = []

    var columnCount: Int { objective.count }

    mutating func addColumn(_ bounds: ClosedRange<Double>, objective cost: Double = 0, isWhole whole: Bool = false)
        -> Int {
        objective.append(cost)
        lower.append(bounds.lowerBound)
        upper.append(bounds.upperBound)
        isWhole.append(whole)
        entries.append([])
        return objective.count - 1
    }

    /// A row whose sum lies in `bounds`; entries come with `add` or here.
    mutating func addRow(_ bounds: ClosedRange<Double>, _ sum: [(column: Int, value: Double)] = []) -> Int {
        rowLower.append(bounds.lowerBound)
        rowUpper.append(bounds.upperBound)
        for (column, value) in sum { add(value, of: column, to: rowLower.count - 1) }
        return rowLower.count - 1
    }

    mutating func add(_ value: Double, of column: Int, to row: Int) {
        if value != 0 { entries[column].append((Int32(row), value)) }
    }

    struct Solution {
        /// Of the columns found. Of a program with whole columns, none is proven better than `bound`.
        var objective: Double
        var bound: Double
        var columns: [Double]
        /// Dual values: how the objective falls as a row's limit rises. Empty for whole columns.
        var prices: [Double]
        var isProven: Bool
    }

    private var starts: [Int32] {
        var starts: [Int32] = [0]
        for column in entries { starts.append(starts[starts.count - 1] + Int32(column.count)) }
        return starts
    }

    /// Fractional, by Clp; nil where no columns fit the rows.
    func relaxed() -> Solution? {
        guard let model = unsafe Clp_newModel() else { return nil }
        defer { unsafe Clp_deleteModel(model) }
        unsafe Clp_setLogLevel(model, 0)
        let flat = entries.flatMap(\.self)
        unsafe Clp_loadProblem(model, Int32(columnCount), Int32(rowLower.count), starts, flat.map(\.row),
                               flat.map(\.value), lower, upper, objective, rowLower, rowUpper)
        // The dual simplex: every column here has a lower bound of 0 and no cost but the one that is minimised, so it
        // begins feasible.
        unsafe Clp_dual(model, 0)
        guard unsafe Clp_status(model) == 0, let columns = unsafe Clp_primalColumnSolution(model),
              let prices = unsafe Clp_dualRowSolution(model) else { return nil }
        let value = unsafe Clp_objectiveValue(model)
        return unsafe Solution(objective: value, bound: value,
                               columns: Array(UnsafeBufferPointer(start: columns, count: columnCount)),
                               prices: Array(UnsafeBufferPointer(start: prices, count: rowLower.count)), isProven: true)
    }

    /// Whole where declared, by Cbc; `start` are columns that fit. Nil where the limit of `nodes` came before any
    /// solution, or there is none.
    func solved(nodes: Int, start: [Double]) -> Solution? {
        guard let model = unsafe Cbc_newModel() else { return nil }
        defer { unsafe Cbc_deleteModel(model) }
        let flat = entries.flatMap(\.self)
        unsafe Cbc_loadProblem(model, Int32(columnCount), Int32(rowLower.count), starts, flat.map(\.row),
                               flat.map(\.value), lower, upper, objective, rowLower, rowUpper)
        for column in isWhole.indices where isWhole[column] { unsafe Cbc_setInteger(model, Int32(column)) }
        unsafe Cbc_setLogLevel(model, 0)
        for (name, value) in [("slog", "0"), ("threads", "0"), ("maxNodes", "\(nodes)"), ("ratioGap", "1e-6")] {
            unsafe Cbc_setParameter(model, name, value)
        }
        unsafe Cbc_setMIPStartI(model, Int32(columnCount), Array(0..<Int32(columnCount)), start)
        unsafe Cbc_solve(model)
        guard unsafe Cbc_isProvenInfeasible(model) == 0, let columns = unsafe Cbc_bestSolution(model) else {
            return nil
        }
        return unsafe Solution(objective: Cbc_getObjValue(model), bound: Cbc_getBestPossibleObjValue(model),
                               columns: Array(UnsafeBufferPointer(start: columns, count: columnCount)), prices: [],
                               isProven: Cbc_isProvenOptimal(model) != 0)
    }
}
