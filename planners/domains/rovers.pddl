; Rovers drive between waypoints, sample soil and rock, take images, and send what they found.
(define (domain rover)
  (:requirements :strips :typing)
  (:types rover waypoint store camera mode lander objective)
  (:predicates
    (at ?r - rover ?w - waypoint)
    (at_lander ?l - lander ?w - waypoint)
    (can_traverse ?r - rover ?from ?to - waypoint)
    (visible ?from ?to - waypoint)
    (equipped_for_soil_analysis ?r - rover)
    (equipped_for_rock_analysis ?r - rover)
    (equipped_for_imaging ?r - rover)
    (store_of ?s - store ?r - rover)
    (empty ?s - store)
    (full ?s - store)
    (at_soil_sample ?w - waypoint)
    (at_rock_sample ?w - waypoint)
    (have_soil_analysis ?r - rover ?w - waypoint)
    (have_rock_analysis ?r - rover ?w - waypoint)
    (on_board ?c - camera ?r - rover)
    (supports ?c - camera ?m - mode)
    (calibration_target ?c - camera ?o - objective)
    (calibrated ?c - camera ?r - rover)
    (visible_from ?o - objective ?w - waypoint)
    (have_image ?r - rover ?o - objective ?m - mode)
    (communicated_soil_data ?w - waypoint)
    (communicated_rock_data ?w - waypoint)
    (communicated_image_data ?o - objective ?m - mode))

  (:action navigate
    :parameters (?r - rover ?from ?to - waypoint)
    :precondition (and (at ?r ?from) (can_traverse ?r ?from ?to) (visible ?from ?to))
    :effect (and (at ?r ?to) (not (at ?r ?from))))

  (:action sample_soil
    :parameters (?r - rover ?s - store ?w - waypoint)
    :precondition (and (at ?r ?w) (at_soil_sample ?w) (equipped_for_soil_analysis ?r)
                       (store_of ?s ?r) (empty ?s))
    :effect (and (full ?s) (have_soil_analysis ?r ?w) (not (empty ?s)) (not (at_soil_sample ?w))))

  (:action sample_rock
    :parameters (?r - rover ?s - store ?w - waypoint)
    :precondition (and (at ?r ?w) (at_rock_sample ?w) (equipped_for_rock_analysis ?r)
                       (store_of ?s ?r) (empty ?s))
    :effect (and (full ?s) (have_rock_analysis ?r ?w) (not (empty ?s)) (not (at_rock_sample ?w))))

  (:action drop
    :parameters (?r - rover ?s - store)
    :precondition (and (store_of ?s ?r) (full ?s))
    :effect (and (empty ?s) (not (full ?s))))

  (:action calibrate
    :parameters (?r - rover ?c - camera ?o - objective ?w - waypoint)
    :precondition (and (at ?r ?w) (equipped_for_imaging ?r) (on_board ?c ?r)
                       (calibration_target ?c ?o) (visible_from ?o ?w))
    :effect (calibrated ?c ?r))

  (:action take_image
    :parameters (?r - rover ?w - waypoint ?o - objective ?c - camera ?m - mode)
    :precondition (and (at ?r ?w) (equipped_for_imaging ?r) (on_board ?c ?r) (calibrated ?c ?r)
                       (supports ?c ?m) (visible_from ?o ?w))
    :effect (and (have_image ?r ?o ?m) (not (calibrated ?c ?r))))

  (:action communicate_soil_data
    :parameters (?r - rover ?l - lander ?what ?from ?to - waypoint)
    :precondition (and (at ?r ?from) (at_lander ?l ?to) (visible ?from ?to)
                       (have_soil_analysis ?r ?what))
    :effect (communicated_soil_data ?what))

  (:action communicate_rock_data
    :parameters (?r - rover ?l - lander ?what ?from ?to - waypoint)
    :precondition (and (at ?r ?from) (at_lander ?l ?to) (visible ?from ?to)
                       (have_rock_analysis ?r ?what))
    :effect (communicated_rock_data ?what))

  (:action communicate_image_data
    :parameters (?r - rover ?l - lander ?o - objective ?m - mode ?from ?to - waypoint)
    :precondition (and (at ?r ?from) (at_lander ?l ?to) (visible ?from ?to) (have_image ?r ?o ?m))
    :effect (communicated_image_data ?o ?m)))
