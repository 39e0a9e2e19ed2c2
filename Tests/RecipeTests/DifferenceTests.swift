import Recipe
import Testing

@Suite struct DifferenceTests {
    @Test func keysThatDiffer() {
        var other = Recipe()
        other.optimizer.learningRate = 0.125
        other.data.paths = ["a b = c", "[x]"]
        #expect(Recipe.differences(Recipe().toml, Recipe().toml) == [])
        let found = Recipe.differences(Recipe().toml, other.toml)
        #expect(found.map(\.key).sorted() == ["data.paths", "optimizer.lr"])
        #expect(found.first { $0.key == "optimizer.lr" }?.theirs == "0.125")
        #expect(found.first { $0.key == "data.paths" }?.theirs == "[\"a b = c\", \"[x]\"]")
    }

    /// Keys that one of the two does not have, as in a recipe of another version.
    @Test func keysOfOneOnly() {
        let found = Recipe.differences("[a]\nx = 1\ny = 2\n\n[b]\nx = 3\n", "[a]\nx = 1\n\n[b]\nx = 4\nz = 5\n")
        #expect(found.map(\.key) == ["a.y", "b.x", "b.z"])
        #expect(found.map(\.mine) == ["2", "3", nil] && found.map(\.theirs) == [nil, "4", "5"])
    }
}
