import Base

/// One thing that the progress line says: "loss  2.3145". Its width does not depend on its value, as long as
/// the value is not absurd, so that the columns stand still.
struct Field: Equatable {
    /// Before and after the value.
    var label = ""
    let value: String
    var unit = ""
    /// The field with the highest number goes first when the line is too long.
    let rank: Int

    var width: Int { label.count + value.count + unit.count }
    var text: String { label + value + unit }
}

extension StepReport {
    /// In the order they are shown.
    var fields: [Field] {
        let total = String(totalSteps)
        var fields = [
            Field(value: padded(String(percent), 3), unit: "%", rank: 4),
            Field(label: "step ", value: padded(String(step), total.count) + "/" + total, rank: 0),
            Field(label: "loss ", value: padded(Units.fixed(loss, 4), 7), rank: 0),
        ]
        if let bitsPerByte {
            fields.append(Field(value: padded(Units.fixed(bitsPerByte, 3), 6), unit: " bits/byte", rank: 1))
        }
        fields.append(Field(value: padded(Units.count(tokensPerSecond), 7), unit: " tokens/s", rank: 3))
        if ranks > 1 {
            // Of the step's time, and of the bytes: what the network costs, and what hid under the backward.
            let each = Units.count(tokensPerSecond / Double(ranks))
            fields.append(Field(value: padded(each, 7), unit: " each", rank: 6))
            let wait = seconds > 0 ? 100 * waitSeconds / seconds : 0
            fields.append(Field(label: "wait ", value: padded(Units.fixed(wait, 1), 4), unit: "%", rank: 4))
            if let hiddenShare {
                fields.append(Field(label: "hidden ", value: padded(Units.fixed(100 * hiddenShare, 0), 3), unit: "%",
                                    rank: 7))
            }
        }
        fields.append(Field(value: padded(Units.fixed(gflops, 1), 6), unit: " GFLOP/s", rank: 6))
        if let mfu {
            let value = padded(Units.fixed(100 * mfu, 1), 5)
            fields.append(Field(label: "MFU ", value: value, unit: "%", rank: 5))
        }
        fields.append(Field(label: "ETA ", value: padded(eta.map(clock) ?? "?", 7), rank: 2))
        return fields
    }

    /// Only in files, where there is room.
    var optimizerFields: [Field] {
        [Field(label: "grad norm ", value: padded(Units.fixed(gradientNorm, 3), 7), rank: 7),
         Field(label: "lr ", value: scientific(learningRate), rank: 7)]
    }

    /// How much of the run is done, rounded down: 100 means done.
    var percent: Int { parts(of: 100) }

    /// How many of `count` equal parts of the run are done.
    func parts(of count: Int) -> Int {
        totalSteps > 0 ? min(max(step, 0), totalSteps) * count / totalSteps : 0
    }
}

/// Right-aligned in `width` columns.
func padded(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.count)) + text
}

/// "0:45", "12:05", "2:03:04": unlike a duration it keeps one form while it counts down.
func clock(_ seconds: Double) -> String {
    guard seconds.isFinite, seconds < 3_600_000 else { return "?" }
    let total = Int(max(seconds, 0).rounded())
    func two(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }
    let (hours, minutes, rest) = (total / 3600, total / 60 % 60, total % 60)
    return hours > 0 ? "\(hours):\(two(minutes)):\(two(rest))" : "\(minutes):\(two(rest))"
}

/// "3.00e-04": always eight columns, for rates that move over decades.
public func scientific(_ value: Double) -> String {
    guard value.isFinite else { return padded("\(value)", 8) }
    var mantissa = value.magnitude, exponent = 0
    guard mantissa > 0 else { return "0.00e+00" }
    while mantissa >= 9.995 { mantissa /= 10; exponent += 1 }
    while mantissa < 0.9995 { mantissa *= 10; exponent -= 1 }
    let digits = padded(String(exponent.magnitude), 2).replacing(" ", with: "0")
    return (value < 0 ? "-" : "") + Units.fixed(mantissa, 2) + "e" + (exponent < 0 ? "-" : "+") + digits
}
