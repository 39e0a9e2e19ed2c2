import Base
import Launch
import Trainer

/// This process's place in its job, from whatever a launcher has set; nil when it runs alone.
func rankSetting() throws(BadInput) -> RankSetting? {
    try RankEnvironment.resolve(ProcessEnvironment.current()).map { place in
        var setting = RankSetting(
            rank: place.rank, worldSize: place.worldSize, localWorldSize: place.localWorldSize,
            masterHost: place.masterAddress, masterPort: place.masterPort, secretFile: place.secretFile)
        // None of the ranks, so far.
        if place.isSpare { (setting.rank, setting.isSpare) = (place.worldSize, true) }
        return setting
    }
}
