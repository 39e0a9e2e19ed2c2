/// Numbers as people read them. No locale, no Foundation.
public enum Units {
    /// `value` with `digits` decimals: fixed(3.14159, 2) is "3.14". Not-a-number and infinities say so.
    public static func fixed(_ value: Double, _ digits: Int) -> String {
        guard value.isFinite else { return value.isNaN ? "nan" : (value < 0 ? "-inf" : "inf") }
        var scale = 1.0
        for _ in 0..<digits { scale *= 10 }
        let scaled = (value.magnitude * scale).rounded()
        guard scaled < 9e15 else { return "\(value)" }
        let whole = Int(scaled)
        let sign = value < 0 && whole != 0 ? "-" : ""
        guard digits > 0 else { return sign + String(whole) }
        let fraction = String(whole % Int(scale))
        let padding = String(repeating: "0", count: digits - fraction.count)
        return sign + String(whole / Int(scale)) + "." + padding + fraction
    }

    /// Bytes in binary units: "512 B", "1.5 KiB", "26.0 MiB".
    public static func bytes(_ count: Int) -> String {
        let names = ["B", "KiB", "MiB", "GiB", "TiB"]
        var value = Double(count)
        var unit = 0
        while value.magnitude >= 1024, unit < names.count - 1 {
            value /= 1024
            unit += 1
        }
        return unit == 0 ? "\(count) B" : "\(fixed(value, 1)) \(names[unit])"
    }

    /// Counts in powers of a thousand: "950", "5.2 k", "26.1 M".
    public static func count(_ value: Double) -> String {
        let names = ["", " k", " M", " G", " T", " P"]
        var scaled = value
        var unit = 0
        while scaled.magnitude >= 1000, unit < names.count - 1 {
            scaled /= 1000
            unit += 1
        }
        return unit == 0 ? fixed(scaled, 0) : fixed(scaled, 1) + names[unit]
    }

    /// A whole number with thin groups of three: 1234567 is "1,234,567".
    public static func grouped(_ value: Int) -> String {
        let digits = Array(String(value.magnitude))
        var text = value < 0 ? "-" : ""
        for (index, digit) in digits.enumerated() {
            if index > 0, (digits.count - index) % 3 == 0 { text.append(",") }
            text.append(digit)
        }
        return text
    }

    /// A duration: "850 ms", "12.3 s", "4:05" (minutes), "2:03:04" (hours).
    public static func duration(_ seconds: Double) -> String {
        guard seconds.isFinite else { return "?" }
        if seconds < 1 { return "\(fixed(seconds * 1000, 0)) ms" }
        if seconds < 60 { return "\(fixed(seconds, 1)) s" }
        let total = Int(seconds.rounded())
        func two(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }
        let (hours, minutes, rest) = (total / 3600, total / 60 % 60, total % 60)
        return hours > 0 ? "\(hours):\(two(minutes)):\(two(rest))" : "\(minutes):\(two(rest))"
    }
}
