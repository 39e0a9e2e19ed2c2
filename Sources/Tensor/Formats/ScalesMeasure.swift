/// Scales of a tensor from all of it, on all threads. The largest of some numbers has no order, and a block belongs to
/// one tile, so neither threads nor tiles change a bit.
extension Scales {
    /// `measure`, on all threads. `scratch`: a row for each thread, of a float at least, that nobody uses meanwhile.
    public func measure(_ x: Matrix, _ rule: ScaleRule, format: NumberFormat, pool: Pool, scratch: Matrix) {
        guard gridRows * gridColumns > 1 else {
            let amax = largestMagnitude(x, pool: pool, scratch: scratch)
            return set(rule.factor(amax: amax, format: format) ?? 1)
        }
        let rows = max(1, 64 / block.rows), columns = max(1, 1_024 / block.columns)
        let across = (gridColumns + columns - 1) / columns
        pool.run((gridRows + rows - 1) / rows * across, stage: "measure") { tile, _ in
            let first = tile / across * rows, start = tile % across * columns
            for row in first..<min(first + rows, gridRows) {
                measure(x, gridRow: row, blocks: start..<min(start + columns, gridColumns), rule, format: format)
            }
        }
    }

    /// `measureTwoLevels`, on all threads. `scratch` as above.
    public func measureTwoLevels(_ x: Matrix, format: NumberFormat, pool: Pool, scratch: Matrix) {
        let amax = largestMagnitude(x, pool: pool, scratch: scratch), rows = max(1, 64 / block.rows)
        pool.run((gridRows + rows - 1) / rows, stage: "measure") { tile, _ in
            for row in (tile * rows)..<min(tile * rows + rows, gridRows) {
                measureTwoLevels(x, gridRow: row, amax: amax, format: format)
            }
        }
    }
}

/// The largest magnitude of a matrix, on all threads. `scratch` as in `Scales.measure`.
public func largestMagnitude(_ x: Matrix, pool: Pool, scratch: Matrix) -> Float {
    for worker in 0..<pool.threads { scratch.row(worker)[0] = 0 }
    let size = 64
    pool.run((x.rows + size - 1) / size, stage: "measure") { tile, worker in
        let own = largestMagnitude(x.rows(tile * size, min(size, x.rows - tile * size)))
        let peak = scratch.row(worker)
        peak[0] = largerMagnitude(peak[0], own)
    }
    return (0..<pool.threads).reduce(0) { largerMagnitude($0, scratch.row($1)[0]) }
}
