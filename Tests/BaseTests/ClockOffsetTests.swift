import Base
import Testing

@Suite struct ClockOffsetTests {
    /// One exchange as it happens: both begin when they like; each is done when it has begun and the other's message,
    /// `delay` underway, is there. The other's clock is the true time.
    private func round(offset: Int64, own: Int64, other: Int64, toOwn: Int64, toOther: Int64) -> ClockOffset.Round {
        ClockOffset.Round(ownBegin: own + offset, ownEnd: max(own, other + toOwn) + offset, otherBegin: other,
                          otherEnd: max(other, own + toOther))
    }

    /// Whatever the offset, the delays (unequal ones too) and who begins first: the truth lies within the bounds.
    @Test func theTruthLiesWithinTheBounds() {
        let delays: [Int64] = [0, 1, 40, 1_000, 250_000]
        for offset: Int64 in [0, 1, -1, 777, -5_000_000_000, 86_400_000_000_000] {
            for toOwn in delays {
                for toOther in delays {
                    for lead: Int64 in [-3_000, -40, 0, 1, 40, 3_000] {
                        let one = round(offset: offset, own: 9_000, other: 9_000 + lead, toOwn: toOwn, toOther: toOther)
                        let measured = ClockOffset([one])
                        #expect(abs(measured.nanoseconds - offset) <= measured.uncertainty)
                    }
                }
            }
        }
    }

    /// One quick exchange among slow ones decides; more rounds never make the bounds wider.
    @Test func theBestBoundsHold() {
        let offset: Int64 = 123_456
        var rounds: [ClockOffset.Round] = []
        var width = Int64.max
        let rng = CounterRNG(seed: 3, stream: 0)
        for index in 0..<40 {
            let delay = { place in 10 + Int64(rng.integer(below: 5_000, at: UInt64(4 * index + place))) }
            let start = Int64(index) * 20_000
            rounds.append(round(offset: offset, own: start, other: start + delay(0) - 2_500, toOwn: delay(1),
                                toOther: delay(2)))
            let measured = ClockOffset(rounds)
            #expect(measured.uncertainty <= width)
            #expect(abs(measured.nanoseconds - offset) <= measured.uncertainty)
            width = measured.uncertainty
        }
        rounds.append(round(offset: offset, own: 900_000, other: 900_000, toOwn: 7, toOther: 9))
        #expect(ClockOffset(rounds).uncertainty <= 10)
    }

    /// A clock that gains 100 parts in a million is right at both ends and between them, and keeps all orders.
    @Test func driftIsTakenOff() {
        let ahead: Int64 = 5_000_000
        func own(_ time: Int64) -> Int64 { time + ahead + time / 10_000 }
        let (begin, end) = (own(0), own(4_000_000_000))
        let alignment = ClockAlignment(at: begin, ClockOffset(nanoseconds: ahead, uncertainty: 30), at: end,
                                       ClockOffset(nanoseconds: ahead + 400_000, uncertainty: 20))
        #expect(alignment.uncertainty == 30)
        for time in stride(from: Int64(0), through: 4_000_000_000, by: 250_000_000) {
            #expect(abs(alignment.align(own(time)) - time) <= 50, "\(time)")
        }
        var last = Int64.min
        for time in stride(from: begin - 3_000, through: begin + 3_000, by: 1) {
            #expect(alignment.align(time) >= last)
            last = alignment.align(time)
        }
    }
}
