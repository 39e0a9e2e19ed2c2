/// Columns and rows of `FractionalPlan`, whose head says what they are.
struct FractionalProgram {
    private(set) var program = LinearProgram()
    /// Of y[q][b][c]; -1 where there is none.
    private(set) var columns: [[[Int]]] = []
    private(set) var rankRows: [Int] = []
    private(set) var slowestRows: [Int] = []

    private let problem: PlanProblem
    private let classes: RankClasses
    private let brackets: [Bracket]
    private let buckets: [Range<Int>]
    private let end: Int
    private let ceiling: Double
    private var memoryRows: [[Int]] = []
    private var widthRows: [Int] = []

    init(_ problem: PlanProblem, _ classes: RankClasses, _ brackets: [Bracket], _ buckets: [Range<Int>],
         floor: Double, ceiling: Double) {
        self.problem = problem
        self.classes = classes
        self.brackets = brackets
        self.buckets = buckets
        self.ceiling = ceiling
        end = program.addColumn(floor...Double.infinity, objective: 1)
    }

    mutating func fill() {
        addLimits()
        for bucket in buckets { addBucket(bucket) }
    }

    /// Rows of ranks, of widths and of memory, with C and the tasks in them.
    private mutating func addLimits() {
        for c in 0..<classes.count {
            rankRows.append(program.addRow(-Double.infinity...0, [(end, -Double(classes.countFrom(c)))]))
            slowestRows.append(program.addRow(-Double.infinity...0, [(end, -Double(classes.counts[c]))]))
        }
        let count = problem.rates.count
        for bracket in brackets {
            let sideBySide = count / bracket.degrees.lowerBound
            widthRows.append(program.addRow(-Double.infinity...0, [(end, -Double(sideBySide))]))
        }
        for (b, bracket) in brackets.enumerated() {
            memoryRows.append((0..<classes.count).map { c in
                let tasks = program.addColumn(0...Double.infinity)
                let row = program.addRow(-Double.infinity...0, [(tasks, -Double(problem.tokenCap))])
                let seconds = problem.cost.taskSeconds / classes.speeds[c] + bracket.latency / classes.links[c]
                charge(tasks, area: seconds, seconds: seconds / Double(bracket.degrees.upperBound), b, c)
                return row
            })
        }
    }

    /// Puts a column into the rows of ranks and widths. `area`: seconds x ranks.
    private mutating func charge(_ column: Int, area: Double, seconds: Double, _ b: Int, _ c: Int) {
        for within in 0...c { program.add(area, of: column, to: rankRows[within]) }
        if classes.count > 1 { program.add(seconds, of: column, to: slowestRows[c]) }
        for wide in 0...b { program.add(seconds, of: column, to: widthRows[wide]) }
    }

    private mutating func addBucket(_ bucket: Range<Int>) {
        let work = bucket.reduce(0) { $0 + problem.work[$1] }
        // As if every member had as few tokens for its work as the one with the fewest.
        let ratio = bucket.map { Double(problem.tokens[$0]) / max(problem.work[$0], .leastNormalMagnitude) }.min() ?? 0
        let tokens = min(ratio * work, Double(bucket.reduce(0) { $0 + problem.tokens[$1] }))
        let shortest = bucket.upperBound - 1, leastWork = bucket.map { problem.work[$0] }.min() ?? 0
        let bucketRow = program.addRow(1...1)
        let longestRow = program.addRow(-Double.infinity...0, [(end, -1)])
        columns.append(brackets.enumerated().map { b, bracket in
            (0..<classes.count).map { c in
                let widest = min(bracket.degrees.upperBound, classes.countFrom(c))
                guard bracket.degrees.lowerBound <= classes.countFrom(c),
                      problem.tokens[shortest] <= problem.tokenCap * widest else { return -1 }
                let (speed, link) = (classes.speeds[c], classes.links[c]), d = Double(bracket.degrees.upperBound)
                let alone = leastWork / (d * speed) + bracket.latency / link
                    + Double(problem.tokens[shortest]) * bracket.secondsPerToken / link
                    + problem.cost.taskSeconds / speed
                guard alone <= ceiling else { return -1 }
                let column = program.addColumn(0...1)
                program.add(1, of: column, to: bucketRow)
                program.add(tokens, of: column, to: memoryRows[b][c])
                charge(column, area: work / speed + tokens * bracket.areaPerToken / link,
                       seconds: work / (d * speed) + tokens * bracket.secondsPerToken / link, b, c)
                program.add(alone, of: column, to: longestRow)
                return column
            }
        })
    }
}
