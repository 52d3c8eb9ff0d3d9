"""The experiment of Groschner, Choi and Scott (2020), done again on simulated micrographs."""
