import Base
import Checkpoint
import Recipe

private struct DifferenceLine: Encodable {
    let tensor: String
    var shape: [Int]?
    var dtypes: [String]?
    /// "both", or where alone it is: "mine", "theirs"; "reshaped" where the shapes differ.
    let found: String
    var different: Int?
    var max: Double?
    var rms: Double?
    var ulps: UInt64?
    var cosine: Double?
    var non_finite: Int?
}

private struct RecipeLine: Encodable {
    let recipe: [RecipeDifference]
}

/// How far each tensor of `mine` is from its namesake in `theirs`, and which keys of the recipes differ.
func showDifference(_ mine: TensorArchive, _ theirs: TensorArchive, json: Bool) throws {
    let names = ArchiveDifference(mine, theirs), (ours, others) = (mine.reader(), theirs.reader())
    var rows = [["tensor", "shape", "dtype", "differ", "max", "rms", "ulps", "cosine", "non-finite"]], equal = 0
    for (a, b) in names.both {
        let found = try difference((a, ours), (b, others),
                                   scales: (mine.scales(of: a, with: ours), theirs.scales(of: b, with: others)))
        let dtypes = a.dtype == b.dtype ? [a.dtype.rawValue] : [a.dtype.rawValue, b.dtype.rawValue]
        if json {
            printJSON(DifferenceLine(tensor: a.name, shape: a.shape, dtypes: dtypes, found: "both",
                                     different: found.different, max: found.maximum, rms: found.rootMeanSquare,
                                     ulps: found.ulps, cosine: found.cosine, non_finite: found.nonFinite))
        } else if found.different == 0, dtypes.count == 1 {
            equal += 1
        } else {
            rows.append([a.name, shapeText(a.shape), dtypes.joined(separator: "/"), Units.grouped(found.different),
                         short(found.maximum), short(found.rootMeanSquare), found.ulps.map { "\($0)" } ?? "-",
                         found.cosine.map { Units.fixed($0, 9) } ?? "-", Units.grouped(found.nonFinite)])
        }
    }
    let recipes = try recipeDifferences(mine, theirs)
    if json { return printRest(names, recipes) }
    print("\(mine.path) against \(theirs.path): \(rows.count - 1) tensors differ, \(equal) are equal")
    if rows.count > 1 { printAligned(rows) }
    for (a, b) in names.reshaped { print("\(a.name) is \(shapeText(a.shape)) here, \(shapeText(b.shape)) there") }
    printLone(names.onlyMine, in: mine.path)
    printLone(names.onlyTheirs, in: theirs.path)
    guard let recipes else { return }
    print(recipes.isEmpty ? "the recipes are equal" : "recipe")
    if !recipes.isEmpty {
        printAligned(recipes.map { [$0.key, $0.mine ?? "(no such key)", $0.theirs ?? "(no such key)"] })
    }
}

private func printLone(_ tensors: [StoredTensor], in path: String) {
    guard let first = tensors.first else { return }
    print(tensors.count == 1 ? "\(first.name) is only in \(path)"
        : "\(Units.grouped(tensors.count)) tensors are only in \(path), from \(first.name) to \(tensors.last!.name)")
}

/// Nil unless both carry a recipe.
private func recipeDifferences(_ mine: TensorArchive, _ theirs: TensorArchive) throws -> [RecipeDifference]? {
    guard let a = try mine.checkpoint?.recipe(), let b = try theirs.checkpoint?.recipe() else { return nil }
    return Recipe.differences(a, b)
}

private func printRest(_ names: ArchiveDifference, _ recipes: [RecipeDifference]?) {
    for (tensor, _) in names.reshaped { printJSON(DifferenceLine(tensor: tensor.name, found: "reshaped")) }
    for tensor in names.onlyMine { printJSON(DifferenceLine(tensor: tensor.name, found: "mine")) }
    for tensor in names.onlyTheirs { printJSON(DifferenceLine(tensor: tensor.name, found: "theirs")) }
    if let recipes { printJSON(RecipeLine(recipe: recipes)) }
}
