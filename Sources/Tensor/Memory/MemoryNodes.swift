import Base
import CKernels

/// Memory of machines with several sockets, where a core reaches its own socket's memory faster (NUMA).
///
/// Linux puts a page where the thread runs that touches it first; with one thread that touches all of an arena, that is
/// one socket, whose memory then serves the cores of all. Which thread takes which tile of a step is not known, since
/// threads take the next tile from a counter. So pages go to the sockets in turn, to those alone whose cores this
/// process may use: every core finds an equal part near, and all memory channels serve. A process that is bound to one
/// socket (a rank on each, by `taskset` or Slurm) has its memory there.
package struct MemoryNodes {
    /// The nodes of the cores that this process may use, in ascending order.
    package let nodes: [Int]

    /// system: where nodes are described; status: what the kernel says of this process.
    package init(system: String = "/sys/devices/system/node", status: String = "/proc/self/status") {
        func list(_ path: String) -> [Int] {
            KernelFiles.lines(of: path).first.flatMap { KernelFiles.numbers($0) } ?? []
        }
        func allowed(_ name: String) -> Set<Int> {
            let line = KernelFiles.line(of: status, beginning: name + ":")
            return Set(line.flatMap { KernelFiles.numbers($0.drop { $0 != ":" }.dropFirst()) } ?? [])
        }
        let cores = allowed("Cpus_allowed_list"), memories = allowed("Mems_allowed_list")
        nodes = list(system + "/online").filter { node in
            memories.contains(node) && !cores.isDisjoint(with: list(system + "/node\(node)/cpulist"))
        }
    }

    static let own = MemoryNodes()

    /// Has the pages of memory that nobody has touched yet come from all nodes in turn. Does nothing where there is
    /// one, or where the kernel refuses: then pages go where they are touched, which is slower and not wrong.
    func interleave(_ memory: UnsafeMutableRawPointer, bytes: Int) {
        guard nodes.count > 1, let last = nodes.last, last < 1_024 else { return }
        var mask = [UInt](repeating: 0, count: 16)
        for node in nodes { mask[node / 64] |= 1 << UInt(node % 64) }
        unsafe skein_interleave_memory(memory, bytes, mask, 1_024)
    }
}
