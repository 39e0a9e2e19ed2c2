#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// The monotonic clock, in nanoseconds since an arbitrary moment. It never jumps and never decides a
/// result: times are for people, deadlines and measurements.
public enum MonotonicClock {
    public static func nanoseconds() -> UInt64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    /// Seconds since an arbitrary moment.
    public static func seconds() -> Double { Double(nanoseconds()) * 1e-9 }
}

/// The wall clock as "2026-01-31T12:00:00Z", for logs and manifests.
public func utcTimestamp() -> String {
    utcTimestamp(secondsSince1970: Int(time(nil)))
}

/// Days are turned into a date by counting 400-year cycles from 1 March of the year 0, so that the leap
/// day is the last of its year.
package func utcTimestamp(secondsSince1970 seconds: Int) -> String {
    let days = seconds / 86_400 + 719_468
    let ofCycle = days % 146_097
    let yearOfCycle = (ofCycle - ofCycle / 1_460 + ofCycle / 36_524 - ofCycle / 146_096) / 365
    let ofYear = ofCycle - (365 * yearOfCycle + yearOfCycle / 4 - yearOfCycle / 100)
    let monthFromMarch = (5 * ofYear + 2) / 153
    let day = ofYear - (153 * monthFromMarch + 2) / 5 + 1
    let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
    let year = days / 146_097 * 400 + yearOfCycle + (month <= 2 ? 1 : 0)
    func two(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }
    let rest = seconds % 86_400
    return "\(year)-\(two(month))-\(two(day))T\(two(rest / 3600)):\(two(rest / 60 % 60)):\(two(rest % 60))Z"
}
